"""host:port and [v6]:port, as they are written and taken apart. Pure."""


def split_address(address: str) -> tuple[str, int]:
    """host:port or [v6]:port into its parts; the host without brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The parts as they are written."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
