"""Peak memory of one system, in a process of its own: the operating system counts by process, and never backwards."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from repro.efficiency.steps import infer, make_optimiser, train
from repro.efficiency.systems import Size, build, make_batch

Row = dict[str, int | str]


def peaks(names: Sequence[str], size: Size, device: torch.device, inference: int, training: int) -> Iterator[Row]:
    """A row a system: peak bytes of inference and of a training step, at batches of so many tweets.

    On a CPU the whole process counts, and `empty_bytes` is what it has before there is a model; on CUDA what torch's
    allocator holds. Processes are forked from one that has done nothing but import.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in names:
            yield pool.submit(_peaks_of, name, size, str(device), inference, training, torch.get_num_threads()).result()


def _peaks_of(name: str, size: Size, device_name: str, inference: int, training: int, threads: int) -> Row:
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    row: Row = {"variant": name, "empty_bytes": _peak(device)}
    model = build(name, size, device)
    infer(model, make_batch(size, inference, device, name=name))
    row |= {"inference_batch": inference, "inference_bytes": _peak(device)}
    model.train()
    train(model, make_batch(size, training, device, name=name), [make_optimiser(model.parameters())])
    return row | {"training_batch": training, "training_bytes": _peak(device)}


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
