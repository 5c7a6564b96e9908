"""The videos of ImageNet-P (Hendrycks and Dietterich, ICLR 2019)."""

PERTURBATIONS = ('gaussian_noise', 'shot_noise', 'motion_blur', 'zoom_blur', 'snow', 'brightness',
                 'translate', 'rotate', 'tilt', 'scale')
# kept for validation by the paper
EXTRA_PERTURBATIONS = ('speckle_noise', 'gaussian_blur', 'spatter', 'shear')

DEFAULT_NUM_FRAMES = 31
NUM_FRAMES = {'translate': 41}
