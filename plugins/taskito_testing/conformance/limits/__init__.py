"""The suites of the rate limiter and the circuit breaker."""
