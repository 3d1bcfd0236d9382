"""Background jobs whose behaviour can be proved, on asyncio and on trio."""
