# `pip install smg==1.13.0`. It balances over equals and has no first choice: a key pins all requests to one worker
# (`--header "x-smg-routing-key: k1"`, tried until it was the first), and a circuit breaker that opens at the first failure
# sends the one retry to the other. Its only timeout is for the whole request.

smg launch --worker-urls http://127.0.0.1:9101 http://127.0.0.1:9102 --host 127.0.0.1 --port 9184 \
  --policy consistent_hashing --request-timeout-secs 2 --retry-max-retries 2 --retry-initial-backoff-ms 1 \
  --cb-failure-threshold 1 --cb-success-threshold 1 --cb-timeout-duration-secs 1 --health-check-interval-secs 1 \
  --worker-startup-check-interval 1 --disable-tokenizer-autoload --history-backend none
