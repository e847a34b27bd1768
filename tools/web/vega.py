"""The JavaScript library that draws plots in a page, vega-embed with Vega and Vega-Lite."""


def vega_bundle() -> str:
    """Return JavaScript that defines `vegaEmbed` and nothing else, for a script of a page."""
    import vl_convert  # here, because the import takes a second

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{\n{bundle}\n}})();"
