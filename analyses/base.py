"""What a canned analysis is made of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import pandas as pd
from pydantic import BaseModel, ConfigDict, JsonValue

from analyses.results.provenance import collect
from analyses.results.result import AnalysisResult, Check
from interp.charts.spec import Chart


class Parameters(BaseModel):
    """Base class of an analysis's parameters; each field has a default and a description.

    A field named `seed` is recorded as the run's seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


OPENS_MODELS: dict[str, JsonValue] = {"opens_models": True}
"""`json_schema_extra` of a field of names that are opened as models.

The command line takes any name there; a page, whose forms and address anybody may fill in, only
names of the zoo.
"""
OPENS_FILES: dict[str, JsonValue] = {"opens_files": True}
"""`json_schema_extra` of a field with a path that is read: for the command line, not for a page."""


P = TypeVar("P", bound=Parameters)


class Analysis(ABC, Generic[P]):
    """A canned analysis: a question, its parameters, and how it is answered.

    A subclass is declared in a file of its own in `analyses/` and found by being there:

        @register
        class InductionHeads(Analysis[InductionParams]):
            name = "induction-heads"
            question = "Which heads attend to the token after an earlier copy of this one?"

            def run(self, model: HookedTransformer, params: InductionParams) -> AnalysisResult:
                ...
                return self.result(model, params, tables=..., figures=..., checks=...)

    Attributes:
        name: The name it is run by, in kebab-case.
        question: The one-line question it answers.
        caveat: How its numbers can mislead; shown with every result.
        Params: The class of its parameters, taken from `Analysis[...]`.
        needs_model: Whether it analyses a model that the caller gives. If not, it is run with
            None.
        takes_interventions: Whether hooks on the model change everything that it reports, as they
            do where all it knows of the model comes from running it.
        lengthy: Whether its defaults take more than the 15 seconds of a quick run on a small
            model, as where it trains: a page then runs it in a process of its own.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    caveat: ClassVar[str] = ""
    Params: ClassVar[type[Parameters]]
    needs_model: ClassVar[bool] = True
    takes_interventions: ClassVar[bool] = False
    lengthy: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            if get_origin(base) is Analysis and isinstance(get_args(base)[0], type):
                cls.Params = get_args(base)[0]

    @abstractmethod
    def run(self, model: Any, params: P) -> AnalysisResult:
        """Answer the question. `self.result(...)` makes what is to be returned."""

    def quick(self, params: P) -> P:
        """Smaller settings for a first look; parameters that the user set are kept after this."""
        return params

    @classmethod
    def merged(cls, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """A model's default settings with the user's on top.

        To be overridden where one setting takes the place of another.
        """
        return {**defaults, **given}

    @classmethod
    def supports(cls, model: Any) -> str | None:
        """The reason why this analysis does not fit a model, in a few words; None if it fits."""
        return None

    def result(
        self,
        model: Any,
        params: P,
        *,
        tables: Mapping[str, pd.DataFrame],
        figures: Mapping[str, Chart],
        checks: Sequence[Check],
        tokens: Sequence[Sequence[int]] | None = None,
        str_tokens: Sequence[Sequence[str]] | None = None,
    ) -> AnalysisResult:
        """Put a result together, with its provenance.

        Args:
            model: The model that was analysed, or None.
            params: The parameters that were used.
            tables: Tidy tables by name.
            figures: Charts by name, each of one of the tables.
            checks: At least one identity.
            tokens: The token ids of each input row, if there was an input.
            str_tokens: The same tokens as text.
        """
        provenance = collect(
            model,
            tokens=tokens,
            str_tokens=str_tokens,
            parameters=params.model_dump(mode="json"),
            seed=getattr(params, "seed", None),
        )
        return AnalysisResult(
            self.name,
            self.question,
            dict(tables),
            dict(figures),
            list(checks),
            provenance,
            self.caveat,
        )
