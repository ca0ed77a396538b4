"""What Vinkje decides. `worker` waits; it imports this package, never the other way."""
