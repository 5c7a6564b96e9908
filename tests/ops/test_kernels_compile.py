"""The CUDA kernels, compiled for cards that are not here, and what they need of shared memory."""
import pytest

triton = pytest.importorskip('triton', reason='Triton is not installed', minversion='3.3')
pytest.importorskip('triton.backends.nvidia', reason='Triton cannot compile for NVIDIA here')

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from mmrobust.ops import triton_pooling, triton_statistics  # noqa: E402
from mmrobust.ops.backend import INTERPRETED  # noqa: E402

pytestmark = pytest.mark.skipif(INTERPRETED, reason='the interpreter compiles nothing')

SHARED = {80: 163, 86: 99, 90: 227, 100: 227}  # KiB that a program can have
TYPED = ('Q', 'K', 'GradQ', 'GradK', 'X', 'Weights', 'Grad', 'Out')  # pointers to the inputs' type
WHOLE = ('H', 'R', 'Nk', 'C', 'W')
REALS = ('scale', 'factor', 'floor', 'level', 'column_level')
STATISTICS = ('_log_sum_exp', '_total', '_grad_q', '_grad_k')


def compiled(kernel, capability, dtype, constants, **options):
    kernel = getattr(kernel, 'fn', kernel) if hasattr(kernel, 'configs') else kernel
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = 'constexpr'
        elif name[0].isupper() and name not in WHOLE:
            signature[name] = f'*{dtype}' if name in TYPED else '*fp32'
        else:
            signature[name] = 'fp32' if name in REALS else 'i32'
    return triton.compile(ASTSource(kernel, signature, constants),
                          target=GPUTarget('cuda', capability, 32), options=options)


def assert_fits(binary, capability):
    assert binary.asm['cubin']
    assert f'sm_{capability}' in binary.asm['ptx']
    assert binary.metadata.shared <= SHARED[capability] * 1024


@pytest.mark.parametrize('capability', SHARED)
@pytest.mark.parametrize('name', STATISTICS)
@pytest.mark.parametrize('dtype, d', [('bf16', 56), ('fp32', 64)])
def test_the_first_blocks_of_the_statistics_fit_every_card(name, capability, dtype, d):
    rows, keys, warps, stages = triton_statistics.BLOCKS[0]
    for weighted in (False, True) if name == '_total' else (False,):
        binary = compiled(
            getattr(triton_statistics, name), capability, dtype,
            dict(BM=rows, BN=keys, BD=64, d=d, ALIGN=8, PART=triton_statistics.PART,
                 WEIGHTED=weighted, PRECISION='tf32x3'), num_warps=warps, num_stages=stages)
        assert_fits(binary, capability)


@pytest.mark.parametrize('capability', SHARED)
def test_what_needs_no_tuning(capability):
    assert_fits(compiled(triton_statistics._column_sums, capability, 'fp32', dict(BM=64, BN=64)),
                capability)
    tile = dict(K=4, BP=triton_pooling.POSITIONS, BC=triton_pooling.CHANNELS)
    for adjoint in (False, True):
        assert_fits(compiled(triton_pooling._pool, capability, 'bf16',
                             dict(tile, ADJOINT=adjoint)), capability)
    assert_fits(compiled(triton_pooling._grad_weights, capability, 'bf16', tile), capability)
