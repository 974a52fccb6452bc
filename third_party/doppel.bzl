"""How doppel's own code is compiled: with warnings as errors, and with include
paths that bear the library's name."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

_COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
]

def doppel_library(name, **kwargs):
    """A cc_library whose headers are included as doppel/PACKAGE/NAME.h.

    Args:
      name: the target.
      **kwargs: as for cc_library.
    """
    package = native.package_name()
    cc_library(
        name = name,
        copts = _COPTS + kwargs.pop("copts", []),
        include_prefix = "doppel/" + package,
        strip_include_prefix = "/" + package,
        **kwargs
    )

def doppel_binary(name, **kwargs):
    """A cc_binary under the same warnings."""
    cc_binary(
        name = name,
        copts = _COPTS + kwargs.pop("copts", []),
        **kwargs
    )

def doppel_test(name, srcs = None, deps = [], size = "small", **kwargs):
    """A GoogleTest of one file, NAME.cc unless `srcs` says otherwise."""
    cc_test(
        name = name,
        srcs = srcs or [name + ".cc"],
        copts = _COPTS + kwargs.pop("copts", []),
        size = size,
        linkstatic = True,
        deps = deps + [
            "//tests/support",
            "@com_google_googletest//:gtest_main",
        ],
        **kwargs
    )
