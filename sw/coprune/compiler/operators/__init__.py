"""One lowering for every supported operator of an exported network."""

from coprune.compiler.operators.call import Call, Lowering
from coprune.compiler.operators.table import ADVICE, ALIASING, IN_PLACE, LOWERINGS, OPERATORS

__all__ = ["ADVICE", "ALIASING", "IN_PLACE", "LOWERINGS", "OPERATORS", "Call", "Lowering"]
