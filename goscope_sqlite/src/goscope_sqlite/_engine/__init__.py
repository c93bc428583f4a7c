"""The engine: it runs SQL. It knows neither the tables nor the providers that use it."""
