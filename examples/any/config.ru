# A Rack application: answers with its pid.
#
#   puma --bind tcp://127.0.0.1:8000 config.ru
run ->(_environment) { [200, { 'content-type' => 'text/plain' }, ["#{Process.pid}\n"]] }
