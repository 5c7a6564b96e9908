"""Open a page that shows what models make of a picture, clean and corrupted.

    %(prog)s CONFIG CHECKPOINT [CONFIG CHECKPOINT ...]

Drop an image, or name one of the test data by its number; choose a corruption, and see prediction,
confidence, attention and what changed, of each model. Needs gradio: pip install "mmrobust[app]".
"""
import argparse

from .arguments import add_models, load_subjects


def port(text: str) -> int:
    """A number that the system takes for a port."""
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"'{text}': choose a number of 1 to 65535")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, out=False)
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen at; 0.0.0.0 lets other machines see the page '
                        '(default: 127.0.0.1)')
    parser.add_argument('--port', type=port, default=7860, help='default: 7860')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.app import require_gradio, serve

    require_gradio()
    serve(load_subjects(args), args.host, args.port)
