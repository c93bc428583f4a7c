"""goscope in the libraries and frameworks that programs use: one module each.

Import the one that you need, such as `goscope.integrations.fastapi`. Each one names the extra that
installs its library; `goscope.integrations.logging` and `goscope.integrations.asgi` need none.
"""
