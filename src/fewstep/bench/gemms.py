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
