"""Upstream's labels for the Abseil that the distribution packages."""

def packaged_libraries(names):
    """Declares libraries whose headers stand in the system's include path.

    Each links the same set of shared objects: the linker keeps what is needed.

    Args:
      names: the labels that upstream gives them in this package.
    """
    for name in names:
        native.cc_library(
            name = name,
            visibility = ["//visibility:public"],
            deps = ["//:shared_objects"],
        )
