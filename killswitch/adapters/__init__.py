"""Second floor: asyncio. Each module owns exactly one outside thing."""
