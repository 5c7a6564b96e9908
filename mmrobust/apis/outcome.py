"""The results of a benchmark as an object."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrobust.evaluation.plots import plot_results
from mmrobust.evaluation.tables import headline, results_table
from mmrobust.utils.results_file import load_results

if TYPE_CHECKING:
    import pandas
    from PIL.Image import Image


class BenchmarkResults:
    """What a benchmark has measured of one model.

    Args:
        path (str | Path): A ``results.json``.

    Attributes:
        path (Path): That file.
        results (dict): Its content; ``summary`` in it has P, mPC, rPC.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no results file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.results: dict[str, Any] = load_results(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """P, mPC, rPC and whatever else the protocol sums up, as far as it is complete."""
        return self.results['summary']

    def table(self) -> str:
        """The table as text: types and their severities, means and headline."""
        return results_table(self.results)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per cell: heading, name, severity, and every metric.

        Raises:
            ImportError: If pandas is missing.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise ImportError('to_pandas() needs pandas: pip install pandas') from None
        return pandas.DataFrame([
            {**{key: cell[key] for key in ('heading', 'name', 'severity')}, **cell['metrics']}
            for cell in self.results['cells']])

    def plot(self, path: str | Path | None = None) -> Image:
        """The figure, drawn to ``path`` (PNG, and PDF beside it) and returned.

        Args:
            path (str | Path, optional): Defaults to ``results.png`` beside the results.
        """
        from PIL import Image

        path = Path(path or self.path.with_name('results.png')).with_suffix('.png')
        plot_results(self.results, path)
        with Image.open(path) as image:
            return image.copy()

    def __repr__(self) -> str:
        return f'{self.results["model"]} on {self.results["benchmark"]}: {headline(self.results)}'
