"""Files and directories: read with suspicion, written whole.

What is read is never trusted to be what it says: nothing in it runs, sizes are compared with the
bytes that are there before memory is taken, names of files stay inside their directory, and JSON
means one thing only. What is wrong comes out as one clear error.

What is written has its name only once it is complete (`atomic`).
"""

from interp.files.folder import contained, plain_name, require_no_links_out
from interp.files.strict_json import parse_json, read_json
from interp.files.tensors import TensorFile, require_finite
from interp.files.torch_file import load_plain, require_stored
from interp.files.wording import short

__all__ = [
    "TensorFile",
    "contained",
    "load_plain",
    "parse_json",
    "plain_name",
    "read_json",
    "require_finite",
    "require_no_links_out",
    "require_stored",
    "short",
]
