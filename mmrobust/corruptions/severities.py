"""The 19 corruption types, their groups and the parameters of their five severities.

Sources: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019 (ImageNet-C and CIFAR-10-C); Michaelis et al., "Benchmarking
Robustness in Object Detection", 2019 (images of any size; the groups).
"""

NAMES = (
    'gaussian_noise', 'shot_noise', 'impulse_noise',
    'defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur',
    'snow', 'frost', 'fog', 'brightness',
    'contrast', 'elastic_transform', 'pixelate', 'jpeg_compression',
    'speckle_noise', 'gaussian_blur', 'spatter', 'saturate',
)

GROUPS = {
    'all': NAMES,
    'benchmark': NAMES[:15],
    'noise': NAMES[:3],
    'blur': NAMES[3:7],
    'weather': NAMES[7:11],
    'digital': NAMES[11:15],
    'holdout': NAMES[15:],
}

LEVELS = (1, 2, 3, 4, 5)

# family -> type -> the parameters of severities 1 to 5, in the order of the function's arguments
SEVERITIES = {
    'imagenet': {
        'gaussian_noise': (.08, .12, .18, .26, .38),
        'shot_noise': (60, 25, 12, 5, 3),
        'impulse_noise': (.03, .06, .09, .17, .27),
        'speckle_noise': (.15, .2, .35, .45, .6),
        # sigma
        'gaussian_blur': (1, 2, 3, 4, 6),
        # radius, sigma of the antialiasing
        'defocus_blur': ((3, .1), (4, .5), (6, .5), (8, .5), (10, .5)),
        # sigma, largest displacement, iterations
        'glass_blur': ((.7, 1, 2), (.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        # radius, sigma
        'motion_blur': ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        # step, end of the zoom factors
        'zoom_blur': ((.01, 1.11), (.01, 1.16), (.02, 1.21), (.02, 1.26), (.03, 1.31)),
        # mean, deviation, zoom, threshold, radius and sigma of the motion, weight of the image
        'snow': ((.1, .3, 3, .5, 10, 4, .8), (.2, .3, 2, .5, 12, 4, .7),
                 (.55, .3, 4, .9, 12, 8, .7), (.55, .3, 4.5, .85, 12, 8, .65),
                 (.55, .3, 2.5, .85, 12, 12, .55)),
        # weight of the image, weight of the texture
        'frost': ((1, .4), (.8, .6), (.7, .7), (.65, .7), (.6, .75)),
        # amount, decay
        'fog': ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        # mean, deviation, sigma, threshold, intensity, whether it is mud
        'spatter': ((.65, .3, 4, .69, .6, 0), (.65, .3, 3, .68, .6, 0), (.65, .3, 2, .68, .5, 0),
                    (.65, .3, 1, .65, 1.5, 1), (.67, .4, 1, .65, 1.5, 1)),
        'brightness': (.1, .2, .3, .4, .5),
        # factor, offset
        'saturate': ((.3, 0), (.1, 0), (2, 0), (5, .1), (20, .2)),
        'contrast': (.4, .3, .2, .1, .05),
        # quality
        'jpeg_compression': (25, 18, 15, 10, 7),
        # scale
        'pixelate': (.6, .5, .4, .3, .25),
        # factor; amplitude in heights, sigma in sides, movement of the affine map in short sides
        'elastic_transform': ((12.5, .005, .01, 0), (16.25, .005, .01, 0), (21.25, .005, .01, 0),
                              (25, .005, .01, 0), (30, .005, .01, 0)),
    },
    'cifar': {
        'gaussian_noise': (.04, .06, .08, .09, .1),
        'shot_noise': (500, 250, 100, 75, 50),
        'impulse_noise': (.01, .02, .03, .05, .07),
        'speckle_noise': (.06, .1, .12, .16, .2),
        'gaussian_blur': (.4, .6, .7, .8, 1),
        'defocus_blur': ((.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)),
        'glass_blur': ((.05, 1, 1), (.25, 1, 1), (.4, 1, 1), (.25, 1, 2), (.4, 1, 2)),
        'motion_blur': ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        'zoom_blur': ((.01, 1.06), (.01, 1.11), (.01, 1.16), (.01, 1.21), (.01, 1.26)),
        'snow': ((.1, .2, 1, .6, 8, 3, .95), (.1, .2, 1, .5, 10, 4, .9),
                 (.15, .3, 1.75, .55, 10, 4, .9), (.25, .3, 2.25, .6, 12, 6, .85),
                 (.3, .3, 1.25, .65, 14, 12, .8)),
        'frost': ((1, .2, .2), (1, .3, .2), (.9, .4, .2), (.85, .4, .2), (.75, .45, .2)),
        'fog': ((.2, 3), (.5, 3), (.75, 2.5), (1, 2), (1.5, 1.75)),
        'spatter': ((.62, .1, .7, .7, .5, 0), (.65, .1, .8, .7, .5, 0), (.65, .3, 1, .69, .5, 0),
                    (.65, .1, .7, .69, .6, 1), (.65, .1, .5, .68, .6, 1)),
        'brightness': (.05, .1, .15, .2, .3),
        'saturate': ((.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2)),
        'contrast': (.75, .5, .4, .3, .15),
        'jpeg_compression': (80, 65, 58, 50, 40),
        'pixelate': (.95, .9, .85, .75, .65),
        'elastic_transform': ((1, 0, 0, .08), (1, .05, .2, .07), (1, .08, .06, .06),
                              (1, .1, .04, .05), (1, .1, .03, .03)),
    },
}
