"""How a system library is linked."""

def system_libs(names):
    """Options for shared libraries of the system; only those in use end up in the binary."""
    return ["-Wl,--push-state,--as-needed"] + ["-l" + n for n in names] + ["-Wl,--pop-state"]
