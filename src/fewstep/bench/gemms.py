"""Floating-point operations of a perceptron's matrix products, counted by formula.

A multiplication and an addition are two operations. Element-wise work, normalisation, optimiser and random
numbers are not counted: they are what lies between an update and its floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Perceptron:
    """The sizes that decide the cost of an MLP.

    Attributes:
        state: inputs that are one and the same for all rows of a state.
        own: inputs of each row (an action, a noise).
        hidden, outputs: sizes of the layers behind them.
        conditions: inputs that are constant over a whole evaluation (the times of a sampler's step): their
            product is one row, which counts as nothing, unless every row has its own (``own_conditions``).
    """

    state: int
    own: int
    hidden: Sequence[int]
    outputs: int
    conditions: int = 0

    @property
    def _behind(self) -> int:
        """Multiplications per row behind the first layer."""
        return sum(a * b for a, b in pairwise([*self.hidden, self.outputs]))

    def forward(self, states: int, rows: int, *, own_conditions: bool = False) -> int:
        """Evaluate ``rows`` rows that belong to ``states`` states."""
        own = self.own + (self.conditions if own_conditions else 0)
        return 2 * (states * self.state * self.hidden[0] + rows * (own * self.hidden[0] + self._behind))

    def tangent(self, rows: int, *, own_conditions: bool = False) -> int:
        """Push one tangent of the row's own inputs through (a JVP without its primal)."""
        return self.forward(0, rows, own_conditions=own_conditions)

    def weight_gradient(self, states: int, rows: int, *, own_conditions: bool = False) -> int:
        """Gradients of all weights, given those of the layers' outputs."""
        return self.forward(states, rows, own_conditions=own_conditions)

    def input_gradient(self, rows: int, *, wanted: int = 0) -> int:
        """Pull gradients back to the first layer's output, and from there to ``wanted`` inputs."""
        return 2 * rows * (self._behind + wanted * self.hidden[0])

    def training(self, states: int, rows: int, *, own_conditions: bool = False) -> int:
        """Forward and backward of a loss in the weights; gradients of the inputs not wanted.

        With conditions of their own, gradients go on to these (they are embeddings that learn).
        """
        wanted = self.conditions if own_conditions else 0
        return (
            self.forward(states, rows, own_conditions=own_conditions)
            + self.weight_gradient(states, rows, own_conditions=own_conditions)
            + self.input_gradient(rows, wanted=wanted)
        )

    def pathwise(self, states: int, rows: int) -> int:
        """Forward, and the gradient of the outputs in the row's own inputs; the weights are constants."""
        return self.forward(states, rows) + self.input_gradient(rows, wanted=self.own)


@dataclass(frozen=True)
class Residual(Perceptron):
    """A perceptron with no activation behind its first layer, whose output a skip connection reads, too.

    So a row's own inputs may pass the first two kernels as one, their product, while a state passes them one
    after the other. That is cheaper for many rows of a state, and for the gradients of these inputs.
    """

    def forward(self, states: int, rows: int, *, own_conditions: bool = False) -> int:
        """As ``Perceptron.forward``, by whichever way is cheaper."""
        width, inner = self.hidden[:2]
        saved = (rows - states) * width * inner - (rows + width) * self.own * inner
        return super().forward(states, rows, own_conditions=own_conditions) - 2 * max(0, saved)

    def input_gradient(self, rows: int, *, wanted: int = 0) -> int:
        """As ``Perceptron.input_gradient``, by the product where inputs are wanted and that is cheaper."""
        width, inner = self.hidden[:2]
        saved = rows * (width - wanted) * inner if wanted else 0
        return super().input_gradient(rows, wanted=wanted) - 2 * max(0, saved)
