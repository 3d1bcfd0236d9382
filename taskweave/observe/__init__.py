"""What a worker tells the outside: logs, metrics, and the endpoint that shows them; knows no store and no runtime."""
