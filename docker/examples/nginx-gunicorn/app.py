"""A small application: it takes orders, and tells which it has. As a program it makes the tables."""

import sqlite3

FILE = "/var/lib/app/orders.db"


def connect():
    """Open the database, in which an order is on the disk once it is committed."""
    database = sqlite3.connect(FILE, timeout=60)
    database.execute("PRAGMA synchronous = FULL")
    return database


def answer(environ, start_response):
    """Answer a request: POST /orders/NAME, GET /orders, and GET / for the health check."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    status, text = "404 Not Found", ""
    if method == "POST" and path.startswith("/orders/"):
        name = path.removeprefix("/orders/")
        print("order", name, flush=True)
        with connect() as database:
            database.execute("INSERT INTO orders VALUES (?)", [name])
        status, text = "201 Created", name
    elif path == "/orders":
        status, text = "200 OK", "".join(f"{name}\n" for (name,) in connect().execute("SELECT name FROM orders"))
    elif path == "/":
        status, text = "200 OK", "Send me orders\n"
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    with connect() as tables:
        tables.execute("PRAGMA journal_mode = WAL")
        tables.execute("CREATE TABLE IF NOT EXISTS orders (name TEXT PRIMARY KEY)")
    print("the tables are there")
