"""Gradients that a CUDA graph leaves in one tensor, with a graph that is none: it computes anew into the same tensors."""

import pytest
import torch

from groundql.training.fused.graph import GraphedLoss
from groundql.training.optimizer import _as_one


class Repeated(GraphedLoss):
    """Its `graph` writes loss and gradient of the inputs where the first ones were, as a CUDA graph does."""

    def _capture(self, batch):
        self.inputs = {name: value.clone() for name, value in batch.items()}
        self.loss = torch.zeros(())
        self.gradient = torch.zeros(sum(p.numel() for p in self.parameters))
        self.graph = self

    def replay(self, batch=None):
        if batch is not None:
            return super().replay(batch)
        with torch.enable_grad():
            loss = self.compute(self.inputs)
            found = torch.autograd.grad(loss, self.parameters)
        self.loss.copy_(loss.detach())
        self.gradient.copy_(torch.cat([one.flatten() for one in found]))
        return None


@pytest.fixture
def parameters():
    return [torch.nn.Parameter(torch.tensor([[1.0, 2.0]])), torch.nn.Parameter(torch.tensor([3.0]))]


@pytest.fixture
def graphed(parameters):
    return Repeated(lambda batch: (parameters[0] * batch["x"]).sum() * parameters[1].sum(), parameters)


def batch(*x):
    return {"x": torch.tensor([list(x)])}


def test_the_gradient_of_a_batch_reaches_the_parameters_without_a_copy(graphed, parameters):
    loss = graphed(batch(1.0, 1.0))
    assert loss.item() == 9
    (loss / 3).backward()
    assert parameters[0].grad.tolist() == [[1.0, 1.0]]
    assert parameters[1].grad.tolist() == [1.0]
    assert parameters[0].grad.data_ptr() == graphed.gradient.data_ptr()


def test_gradients_of_several_batches_add_up(graphed, parameters):
    for x in ((1.0, 1.0), (2.0, 0.0), (0.0, 4.0)):
        graphed(batch(*x)).backward()
    assert parameters[0].grad.tolist() == [[9.0, 15.0]]
    assert parameters[1].grad.tolist() == [3.0 + 2.0 + 8.0]


def test_after_zero_grad_nothing_of_the_last_batch_is_left(graphed, parameters):
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = None
        graphed(batch(1.0, 0.0)).backward()
    assert parameters[0].grad.tolist() == [[3.0, 0.0]]
    assert parameters[1].grad.tolist() == [1.0]


def test_gradients_that_lie_end_to_end_are_one_tensor_without_a_copy_and_others_are_joined():
    flat = torch.arange(12.0)
    pieces = [flat[2:6].view(2, 2), flat[6:9]]
    assert _as_one(pieces).data_ptr() == pieces[0].data_ptr()
    assert _as_one(pieces).tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert _as_one([flat[6:9], flat[2:6]]).tolist() == [6, 7, 8, 2, 3, 4, 5]
    assert _as_one([flat.view(3, 4).t(), flat[:1]]).tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, 0]
