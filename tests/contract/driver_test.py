"""The test driver: its guests exist in its documents only."""

from actors.test.driver import TestActor
from tests.contract.driver import ContractDriver


def define_xml(name: str, uuid: str) -> str:
    """A small guest."""
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory unit='KiB'>8192</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


DRIVER = ContractDriver(actor=TestActor, scope="test:///default", define_xml=define_xml, guests_are_files=True)
