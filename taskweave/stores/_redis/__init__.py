"""The Redis store's parts: one Lua script for each verb, and what stands on the client's side of them."""
