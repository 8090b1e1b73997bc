# `pip install vllm-router==0.1.17`. It balances over equals and has no first choice: a session pins all requests to one
# worker (`--header "x-session-id: k1"`, tried until it was the first), and a circuit breaker that opens at the first
# failure sends the one retry to the other. Its only timeout is for the whole request.

vllm-router --worker-urls http://127.0.0.1:9101 http://127.0.0.1:9102 --host 127.0.0.1 --port 9185 \
  --policy consistent_hash --request-timeout-secs 2 --retry-max-retries 2 --retry-initial-backoff-ms 1 \
  --cb-failure-threshold 1 --cb-success-threshold 1 --cb-timeout-duration-secs 1 --health-check-interval-secs 1 \
  --worker-startup-check-interval 1
