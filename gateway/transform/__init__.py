"""What becomes of requests and replies on their way: headers, paths, queries, addresses, answers of our own."""
