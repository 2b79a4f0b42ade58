"""The skeleton: it has no guests."""

from actors.skeleton.driver import SkeletonActor
from tests.contract.driver import ContractDriver

DRIVER = ContractDriver(actor=SkeletonActor, scope="skeleton:///")
