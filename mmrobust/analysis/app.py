"""A page to try models on: drop a picture, choose a corruption, see what becomes of it."""
import io
import traceback
from collections.abc import Sequence
from typing import Any

from PIL import Image

from mmrobust.corruptions import NAMES
from mmrobust.utils.hosts import there
from mmrobust.utils.mistakes import sentence

from .conditions import CLEAN, Condition
from .inspection import inspect
from .subject import ImageSource, Subject

CLEAN_NAME = 'none'


def require_gradio() -> None:
    """Raise ImportError with the remedy unless gradio is installed."""
    if not there('gradio'):
        raise ImportError('the page needs gradio, which is not installed: '
                          '`pip install "mmrobust[app]"`')


def look(subjects: Sequence[Subject], sources: Sequence[ImageSource], picture: str | None,
         number: float | None, corruption: str, severity: float, family: str, seed: float,
         layer: float, top: float, left: float) -> list:
    """What the page shows: for each model a line of numbers and a picture, in turn.

    Args:
        subjects (Sequence[Subject]): The models.
        sources (Sequence[ImageSource]): The test data of each.
        picture (str, optional): An image file.
        number (float, optional): Without a file: position in the test data.
        corruption (str): Its name, or ``'none'``.
        severity (float): 1 to 5.
        family (str): Severity table, ``'imagenet'`` or ``'cifar'``.
        seed (float): Of the corruption.
        layer (float): Position of the attention layer; -1 is the last.
        top, left (float): Place of the token whose attention is shown, as parts of the image.

    Raises:
        ValueError: If there is no such picture, corruption or layer.
    """
    numbers = dict(severity=severity, seed=seed, layer=layer, top=top, left=left)
    if picture is None:
        numbers['the number of the image'] = number
    for name, value in numbers.items():
        if value is None:
            raise ValueError(f'{name} is empty: give it a number'
                             + (', or drop a picture' if name not in ('severity', 'seed', 'layer',
                                                                      'top', 'left') else ''))
    condition = CLEAN if corruption == CLEAN_NAME else Condition(
        corruption, int(severity), int(seed), family)
    shown = []
    for subject, source in zip(subjects, sources, strict=True):
        image = picture if picture is not None else source.choose(0, indices=[int(number)])[0]
        found = inspect(subject, source, image, condition, int(layer), (top, left))
        buffer = io.BytesIO()
        found.draw().savefig(buffer, format='png')
        shown += [f'**{found.model}** — {found.summary()}', Image.open(buffer)]
    return shown


def build_page(subjects: Sequence[Subject]) -> Any:
    """The page, a ``gradio.Blocks``.

    Args:
        subjects (Sequence[Subject]): The models, shown one below the other.
    """
    require_gradio()
    import gradio as gr

    sources = [ImageSource(subject.cfg) for subject in subjects]

    def answer(*values: Any) -> list:
        try:
            return look(subjects, sources, *values)
        except Exception as error:
            said = sentence(error)
            if said is None:
                traceback.print_exc()
                said = ('a defect of mmrobust, not of your input: please report it with the '
                        'lines that the terminal shows')
            raise gr.Error(said, duration=None, print_exception=False) from error

    with gr.Blocks(title='mmrobust', analytics_enabled=False) as page:
        gr.Markdown('# What becomes of a picture\nDrop an image, or take one of the test data by '
                    'its number; choose a corruption.')
        with gr.Row():
            with gr.Column(scale=1):
                picture = gr.Image(label='picture', type='filepath', image_mode=None,
                                   sources=['upload', 'clipboard'], height=240)
                # the file as it came: our own reader names what is wrong with it
                picture.preprocess = lambda payload: payload and payload.path
                number = gr.Number(0, label='without a picture: image of the test data',
                                   precision=0, minimum=0)
                corruption = gr.Dropdown([CLEAN_NAME, *NAMES], value='fog', label='corruption')
                severity = gr.Slider(1, 5, value=3, step=1, label='severity')
                with gr.Accordion('more', open=False):
                    family = gr.Radio(['imagenet', 'cifar'], value='imagenet',
                                      label='severity table (cifar: of 32 x 32 pixels)')
                    seed = gr.Number(0, label='seed of the corruption', precision=0, minimum=0)
                    layer = gr.Number(-1, label='attention layer (-1: the last)', precision=0)
                    top = gr.Slider(0, 1, value=0.5, label='attention of the token: from the top')
                    left = gr.Slider(0, 1, value=0.5, label='from the left')
                button = gr.Button('Look', variant='primary')
            with gr.Column(scale=3):
                shown = [part for subject in subjects for part in (
                    gr.Markdown(f'**{subject.name}**'),
                    gr.Image(show_label=False, format='png', interactive=False))]
        # one at a time: attention is taken from a model while it runs
        button.click(
            answer, [picture, number, corruption, severity, family, seed, layer, top, left], shown,
            api_name='look', concurrency_limit=1)
    return page


def serve(subjects: Sequence[Subject], host: str = '127.0.0.1', port: int = 7860) -> None:
    """Show the page until it is interrupted.

    Raises:
        OSError: If the port is taken, or the address is none of this machine.
    """
    page = build_page(subjects)
    try:
        page.launch(server_name=host, server_port=port, prevent_thread_lock=True, quiet=True,
                    share=False, show_error=True)
    except OSError as error:
        raise OSError(f'no page at {host}:{port} ({error}): choose another --port, or a --host of '
                      'this machine') from error
    print(f'the page is at http://{host}:{port}; Ctrl-C ends it', flush=True)
    try:
        page.block_thread()
    finally:
        page.close()
