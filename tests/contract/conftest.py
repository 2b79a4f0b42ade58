"""Every test here runs once for each driver that has a file `driver_<name>.py`."""

from __future__ import annotations

import pytest

from tests.contract.driver import ContractDriver, known_drivers


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*procedures): skipped for a driver that does not support them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    drivers = known_drivers()
    if "driver" in metafunc.fixturenames:
        metafunc.parametrize("driver", list(drivers.values()), ids=list(drivers))
    elif "guest_driver" in metafunc.fixturenames:
        with_guests = {name: driver for name, driver in drivers.items() if driver.define_xml is not None}
        metafunc.parametrize("guest_driver", list(with_guests.values()), ids=list(with_guests))


@pytest.fixture(autouse=True)
def concerned(request: pytest.FixtureRequest) -> None:
    """Skips a test that the driver says it has nothing to do with."""
    params = getattr(request.node, "callspec", None)
    driver = None if params is None else params.params.get("driver") or params.params.get("guest_driver")
    if driver is not None and request.node.originalname in driver.without:
        pytest.skip(f"does not concern '{driver.name}'")


@pytest.fixture
def needs(request: pytest.FixtureRequest, guest_driver: ContractDriver) -> None:
    """Skips a test marked `needs("procedure", ...)` for a driver that says it does not support one of them."""
    for mark in request.node.iter_markers("needs"):
        for name in mark.args:
            if name in guest_driver.unsupported:
                pytest.skip(f"'{guest_driver.name}' does not support {name}")
