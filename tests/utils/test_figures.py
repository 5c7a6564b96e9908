"""What every figure has in common."""
import pytest
from matplotlib.lines import Line2D

from mmrobust.utils.figures import legend_below, new_figure


@pytest.mark.parametrize(('letters', 'columns'), [(2, {4}), (15, {2, 3}), (30, {1})])
def test_legends_fit_their_figure(letters, columns):
    """In fewer columns where only one of the labels is long; how wide is the font's affair."""
    figure, _ = new_figure(5.6, 2.7)
    handles = [Line2D([], [], label='m' * length) for length in (letters, 2, 2, 2)]
    legend_below(figure, handles, 4)
    figure.draw_without_rendering()
    legend, = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert legend._ncols in columns


@pytest.mark.parametrize(('entries', 'columns'), [(3, 3), (4, 2), (5, 3), (7, 3)])
def test_lines_of_a_legend_are_even(entries, columns):
    figure, _ = new_figure(5.6, 2.7)
    legend_below(figure, [Line2D([], [], label=str(i)) for i in range(entries)], 3)
    assert figure.legends[0]._ncols == columns
