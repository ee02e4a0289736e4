// Runs the tracker of the npm package bittorrent-tracker, HTTP and UDP on one address, until it is killed:
//   node bt.mjs FOLDER_OF_THE_PACKAGE IP PORT
// Its own command needs a native module for WebRTC, which a tracker without WebSockets does not.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, ip, port] = process.argv.slice(2)
const { default: Server } = await import(pathToFileURL(join(folder, 'server.js')))
const server = new Server({ http: true, udp: true, ws: false, stats: false })

server.on('error', error => { console.error(error.message); process.exit(1) })
server.on('warning', error => console.error(error.message))
const six = ip.includes(':')
const hosts = { http: ip, udp: six ? '127.0.0.1' : ip, udp6: six ? ip : '::1' }
server.listen(Number(port), hosts, () => console.log('listening'))
