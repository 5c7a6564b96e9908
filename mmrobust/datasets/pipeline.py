"""Pipelines of data sets that hold decoded images."""
import re
from collections.abc import Sequence
from typing import Any

LOADING = re.compile(r'(.*\.)?Load\w*Image\w*')


def without_loading(pipeline: Sequence[Any]) -> list[Any]:
    """The steps of a pipeline, configs or built, that do not load an image."""
    def loads(step: Any) -> bool:
        kind = step.get('type') if isinstance(step, dict) else type(step)
        return bool(LOADING.fullmatch(kind if isinstance(kind, str) else kind.__name__))

    return [step for step in pipeline if not loads(step)]
