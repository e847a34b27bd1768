"""The JavaScript library that draws plots in a page, and which scripts a page lets run."""

import base64
import hashlib


def vega_bundle() -> str:
    """Return JavaScript that defines `vegaEmbed` and nothing else, for a script of a page.

    It is to be called with the option `ast`, by which it interprets the expressions of a plot
    instead of making JavaScript of them.
    """
    import vl_convert  # here, because the import takes a second

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{\n{bundle}\n}})();"


def content_security_policy(scripts: list[str], images: str) -> str:
    """Return a policy by which a page runs these scripts alone, and loads images alone.

    images: the sources of those, as in https://www.w3.org/TR/CSP3/.
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in scripts)
    sources = " ".join(f"'sha256-{value.decode()}'" for value in hashes)
    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src {images}; "
        f"style-src 'unsafe-inline'; script-src {sources}"
    )
