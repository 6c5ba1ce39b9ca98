// A peer made of webtorrent, with every discovery off but the DHT.
//
// webtorrent_peer.mjs seed SOURCE FOLDER [bootstrap=HOST:PORT]     prints "listening PORT" when the payload is checked and shared
// webtorrent_peer.mjs get SOURCE FOLDER [bootstrap=HOST:PORT]      ends when the payload is whole
//
// SOURCE is a .torrent or a magnet link; without a bootstrap address there is no DHT.

import './node_modules.mjs'

const { default: WebTorrent } = await import('webtorrent')

const [mode, source, folder, ...options] = process.argv.slice(2)
const bootstrap = options
  .filter(option => option.startsWith('bootstrap='))
  .map(option => option.slice('bootstrap='.length))

const client = new WebTorrent({
  dht: bootstrap.length > 0 && { bootstrap },
  tracker: false,
  lsd: false,
  utp: false,
  utPex: false,
  natUpnp: false,
  natPmp: false,
  webSeeds: false
})
client.on('error', error => { console.error(error); process.exit(1) })

const torrent = client.add(source, { path: folder })
torrent.on('warning', error => console.error(error.message))
torrent.on('wire', (wire, addr) => console.error('joined to', addr))
torrent.on('dhtAnnounce', () => console.error('announced'))
torrent.on('done', () => {
  if (mode === 'seed') return console.log('listening', client.torrentPort)
  console.log('complete')
  client.destroy(error => process.exit(error ? 1 : 0))
})
