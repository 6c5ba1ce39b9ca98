// A node of the npm package bittorrent-dht.
//
// bittorrent_dht.mjs [bootstrap=HOST:PORT]… [announce=INFO_HASH:PORT]… [find=INFO_HASH]…
//
// Prints "listening HOST:PORT", then "announced INFO_HASH" and "peer INFO_HASH HOST:PORT" as they come, until it is ended.

import './node_modules.mjs'

const { default: DHT } = await import('bittorrent-dht')

const given = name => process.argv.slice(2)
  .filter(arg => arg.startsWith(name + '='))
  .map(arg => arg.slice(name.length + 1))

const bootstrap = given('bootstrap')
const dht = new DHT({ bootstrap: bootstrap.length ? bootstrap : false })
dht.on('error', error => { console.error(error); process.exit(1) })
dht.on('warning', error => console.error(error.message))

const said = new Set()
function say (line) {
  if (!said.has(line)) console.log(line)
  said.add(line)
}
dht.on('peer', (peer, infoHash) => say(`peer ${infoHash.toString('hex')} ${peer.host}:${peer.port}`))

// Both can come too early for the others, so they are repeated.
function announce (infoHash, port) {
  // An announce alone would go for minutes to those that the lookup before the first one found, if only to nobody.
  dht.lookup(infoHash, () => dht.announce(infoHash, port, error => {
    if (error) console.error(error.message)
    else say(`announced ${infoHash}`)
    setTimeout(announce, 500, infoHash, port)
  }))
}
function find (infoHash) {
  dht.lookup(infoHash, () => setTimeout(find, 500, infoHash))
}

dht.listen(0, '127.0.0.1', () => {
  say(`listening 127.0.0.1:${dht.address().port}`)
  for (const errand of given('announce')) {
    const [infoHash, port] = errand.split(':')
    announce(infoHash, Number(port))
  }
  given('find').forEach(find)
})
