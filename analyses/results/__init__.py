"""What every analysis gives back: its result, how that is checked, saved, compared and shown.

Begin with `result.AnalysisResult`.
"""
