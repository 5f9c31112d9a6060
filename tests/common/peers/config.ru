# What puma is measured with: one short answer to each request. PAD is the length of a header that
# makes it as long as everybody's.

BODY = "Hello, world!\n"
HEADERS = {
  "Content-Type" => "text/plain",
  "Content-Length" => BODY.bytesize.to_s,
  "X-Pad" => "x" * Integer(ENV.fetch("PAD"))
}

run ->(_) { [200, HEADERS.dup, [BODY]] }
