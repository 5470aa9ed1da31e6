import re

import pytest

from transxnet.utils.errors import UserError
from transxnet.web.server_address import is_loopback, listen, url_of


def error_of_listen(host: str, port: int | None = None) -> str:
    with pytest.raises(UserError) as error:
        listen(host, port)
    return str(error.value)


def test_loopback_addresses_are_recognized():
    for host, expected in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with listen(host, 0) as listening:
            assert is_loopback(listening) == expected
            port = listening.getsockname()[1]
            assert url_of(listening) in (f"http://127.0.0.1:{port}/", f"http://[::1]:{port}/")


def test_ports_in_use_are_errors_or_skipped_by_default():
    with listen("127.0.0.1") as first, listen("127.0.0.1") as second:
        ports = [listening.getsockname()[1] for listening in (first, second)]
        assert 7860 <= ports[0] < ports[1] < 7960
        assert f"port {ports[0]} is in use on 127.0.0.1" in error_of_listen("127.0.0.1", ports[0])


def test_host_of_another_machine_is_an_error():
    for host in ("192.0.2.1", "no such host", "300.1.1.1"):
        assert re.search(r"'.+'.*Accepted: 127\.0\.0\.1", error_of_listen(host))


def test_port_out_of_range_is_an_error():
    assert "from 0 to 65535, got 70000" in error_of_listen("127.0.0.1", 70000)
