# WEBrick answers with its pid.
#
#   ruby server.rb 127.0.0.1 8000
require 'webrick'

host, port = ARGV
server = WEBrick::HTTPServer.new(
  BindAddress: host || '127.0.0.1', Port: Integer(port || 8000), AccessLog: [],
)
server.mount_proc('/') do |_request, response|
  response.content_type = 'text/plain'
  response.body = "#{Process.pid}\n"
end
trap('TERM') { server.shutdown }
_, port, _, address = server.listeners.first.addr
puts "listening on #{address}:#{port}"
$stdout.flush
server.start
