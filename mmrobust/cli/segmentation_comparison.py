"""Image, ground truth and segmentations of several models; boxes where the first two differ.

    %(prog)s CONFIG CHECKPOINT CONFIG CHECKPOINT \\
        --names plain "TAP & ADL" --corruption fog gaussian_noise
    %(prog)s ... --acdc data/acdc --acdc-condition night
"""
import argparse

from .arguments import add_condition, add_models, conditions, load_subjects


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models(parser, images=3)
    add_condition(parser, None, several=True)
    parser.add_argument('--indices', nargs='+', type=int, metavar='I',
                        help='these images of the test data instead of a random choice')
    parser.add_argument('--acdc', metavar='ROOT', help="ACDC's validation images instead")
    parser.add_argument('--acdc-condition', choices=('fog', 'night', 'rain', 'snow'),
                        default='fog')


def run(args: argparse.Namespace) -> None:
    from mmrobust.analysis.segmentations import compare_segmentations

    seen = conditions(args)
    dataset = args.acdc and dict(type='ACDCDataset', data_root=args.acdc, split='val',
                                 conditions=args.acdc_condition)
    print(compare_segmentations(
        load_subjects(args), args.out, args.images, args.seed, seen, dataset,
        args.indices))
