#!/usr/bin/env python
"""Image, ground truth and segmentations of several models; boxes where the first two differ.

    python tools/analysis/segmentation_comparison.py CONFIG CHECKPOINT CONFIG CHECKPOINT \\
        --names plain "TAP & ADL" --corruption fog gaussian_noise
    python tools/analysis/segmentation_comparison.py ... --acdc data/ACDC --acdc-condition night
"""
from _common import add_condition, conditions, load_subjects, main, model_parser


def run() -> None:
    parser = model_parser(__doc__, images=3)
    add_condition(parser, None, several=True)
    parser.add_argument('--indices', nargs='+', type=int, metavar='I',
                        help='these images of the test data instead of a random choice')
    parser.add_argument('--acdc', metavar='ROOT', help="ACDC's validation images instead")
    parser.add_argument('--acdc-condition', choices=('fog', 'night', 'rain', 'snow'),
                        default='fog')
    args = parser.parse_args()
    from mmrobust.analysis.segmentations import compare_segmentations

    dataset = args.acdc and dict(type='ACDCDataset', data_root=args.acdc, split='val',
                                 conditions=args.acdc_condition)
    print(compare_segmentations(
        load_subjects(args), args.out, args.images, args.seed, conditions(args), dataset,
        args.indices))


if __name__ == '__main__':
    main(run)
