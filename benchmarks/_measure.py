"""Time and peak memory of training steps, comparable within one run."""
import gc
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mmrobust.utils.tables import format_table

Step = Callable[[], object]


def synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds(steps: dict[str, Step], device: str, budget: float = 4.) -> dict[str, float]:
    """Shortest time of each step; all take turns, so that a busy moment hits none alone.

    Args:
        budget: Seconds to spend on each step, at least three rounds.
    """
    for step in steps.values():
        step()
    best = dict.fromkeys(steps, float('inf'))
    begin, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - begin < budget * len(steps):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            best[name] = min(best[name], time.perf_counter() - start)
        rounds += 1
    return best


def peak_bytes(make_step: Callable[..., Step], *args, device: str, threads: int = 0) -> int:
    """Peak memory of inputs and one step; on the CPU in a process of its own.

    Args:
        make_step: Module-level function that allocates the inputs and returns the step; called
            first with ``warm_up=True``, when it should choose a tiny size, to load all libraries.
    """
    if device == 'cuda':  # its allocator counts
        return _cuda_peak(make_step, args)
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_peak, args=(sender, make_step, args, threads))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f'{make_step.__name__}{args} did not finish, out of memory?') from None
    finally:
        process.join()


def _peak(sender, make_step, args, threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)
    make_step(*args, warm_up=True)()
    Path('/proc/self/clear_refs').write_text('5')  # restart the high-water mark (Linux)
    before = _status_bytes('VmRSS')
    make_step(*args)()
    sender.send(_status_bytes('VmHWM') - before)


def _cuda_peak(make_step, args) -> int:
    make_step(*args, warm_up=True)()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    make_step(*args)()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _status_bytes(field: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def size(text: str) -> tuple[int, int]:
    """'2x512' as (2, 512), for argparse, which words the ValueError."""
    first, second = map(int, text.split('x'))
    return first, second


def compare(sizes: dict[str, tuple], cases: list[str], baseline: str,
            make_step: Callable[..., Step], device: str, threads: int = 0,
            skip: Callable[..., bool] = lambda *_: False) -> list[dict]:
    """Time and peak memory of all cases at all sizes, printed as a table with ratios to one case.

    Args:
        sizes: Label of each row and the arguments after ``case`` of ``make_step``.
        skip: Called with the case and those arguments.
    """
    records, rows = [], []
    for label, args in sizes.items():
        names = [case for case in cases if not skip(case, *args)]
        memory = {n: peak_bytes(make_step, n, *args, device=device, threads=threads)
                  for n in names}
        times = seconds({n: make_step(n, *args) for n in names}, device,
                        budget=.5 if device == 'cuda' else 4.)
        for name in names:
            record = dict(size=label, case=name, milliseconds=times[name] * 1e3,
                          megabytes=memory[name] / 2**20, time_ratio=times[name] / times[baseline],
                          memory_ratio=memory[name] / max(memory[baseline], 1))
            records.append(record)
            rows.append([v if isinstance(v, str) else f'{v:.2f}' for v in record.values()])
    header = ['size', 'case', 'ms', 'MiB', f'time / {baseline}', f'memory / {baseline}']
    print(format_table([header, None, *rows], text_columns=0))
    return records
