// Makes one call of the key provider service with gRPC for JavaScript.
//
// client.js TARGET WrapKey|UnWrapKey    the message on standard input, the answer on standard output
const fs = require('fs')
const grpc = require('@grpc/grpc-js')

// The one field of the request, number 1, as protobuf has it.
function encode (message) {
  const length = []
  let left = message.length
  for (; left >= 0x80; left >>= 7) length.push((left & 0x7f) | 0x80)
  return Buffer.concat([Buffer.from([0x0a, ...length, left]), message])
}

// The one field of the answer.
function decode (answer) {
  let begin = 1
  while (answer[begin] >= 0x80) begin++
  return answer.subarray(begin + 1)
}

const [target, method] = process.argv.slice(2)
const client = new grpc.Client(target, grpc.credentials.createInsecure())
const deadline = Date.now() + 20000
const name = `/keyprovider.KeyProviderService/${method}`
client.makeUnaryRequest(name, encode, decode, fs.readFileSync(0), new grpc.Metadata(), { deadline }, (error, answer) => {
  if (error) {
    console.error(String(error))
    process.exit(1)
  }
  fs.writeSync(1, answer)
  client.close()
})
