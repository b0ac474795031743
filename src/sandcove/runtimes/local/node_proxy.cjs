// Makes fetch, http and https of Node.js before version 24 use the proxy that HTTPS_PROXY names. Later versions do so
// themselves, by NODE_USE_ENV_PROXY. Loaded by NODE_OPTIONS; costs nothing until a connection is made.
'use strict'
const proxy = process.env.https_proxy || process.env.HTTPS_PROXY
const [major, minor] = process.versions.node.split('.').map(Number)
const knowsProxies = major >= 24 || (major === 22 && minor >= 21)
if (proxy && !knowsProxies) {
  const { hostname: proxyHost, port: proxyPort } = new URL(proxy)
  const direct = (process.env.no_proxy || process.env.NO_PROXY || '').split(',')

  const isDirect = (host) => {
    const name = host.replace(/^\[|\]$/g, '')
    return direct.some((each) => each && (name === each.replace(/^\[|\]$/g, '') || name.endsWith(`.${each}`))) || name.startsWith('127.')
  }

  // A socket to the other end of a tunnel; `done` is called once, with an error or with it.
  const tunnel = (host, port, done) => {
    const target = `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`
    const socket = require('node:net').connect({ host: proxyHost, port: Number(proxyPort) })
    let head = ''
    const fail = (error) => {
      socket.destroy()
      done(error)
    }
    const onData = (data) => {
      head += data.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      socket.removeListener('data', onData)
      socket.removeListener('error', fail)
      const line = head.slice(0, head.indexOf('\r\n'))
      if (!/^HTTP\/1\.[01] 200 /.test(line)) return fail(Object.assign(new Error(line.slice(9)), { code: 'EPROXY' }))
      if (head.length > end + 4) socket.unshift(Buffer.from(head.slice(end + 4), 'latin1'))
      done(null, socket)
    }
    socket.on('error', fail)
    socket.on('data', onData)
    socket.write(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n\r\n`)
  }

  const secured = (socket, options) => require('node:tls').connect({ ...options, socket })

  for (const [name, usual] of [['http', 80], ['https', 443]]) {
    const module = require(`node:${name}`)
    class Agent extends module.Agent {
      createConnection (options, done) {
        const host = options.host || options.hostname || 'localhost'
        if (options.socketPath || isDirect(host)) return super.createConnection(options, done)
        tunnel(host, options.port || usual, (error, socket) => {
          if (error) return done(error)
          if (name === 'http') return done(null, socket)
          const servername = options.servername || (require('node:net').isIP(host) ? undefined : host)
          done(null, secured(socket, { ...options, servername, path: undefined }))
        })
      }
    }
    module.globalAgent = new Agent({ keepAlive: true, timeout: 5000 })
  }

  // fetch's own dispatcher is made at its first use; only then is its class to be had.
  const key = Symbol.for('undici.globalDispatcher.1')
  const plain = globalThis.fetch
  let ready = false
  const prepare = () => {
    ready = true
    const Dispatcher = globalThis[key]?.constructor
    if (Dispatcher?.name !== 'Agent') return
    globalThis[key] = new Dispatcher({
      connect: (options, done) => {
        const host = options.hostname
        const secure = options.protocol === 'https:'
        const port = Number(options.port) || (secure ? 443 : 80)
        const finish = (socket) => {
          if (!secure) return done(null, socket)
          const servername = options.servername || (require('node:net').isIP(host) ? undefined : host)
          const tls = secured(socket, { servername, ALPNProtocols: ['http/1.1'] })
          tls.once('secureConnect', () => done(null, tls)).once('error', done)
        }
        if (isDirect(host)) {
          const socket = require('node:net').connect({ host: host.replace(/^\[|\]$/g, ''), port })
          socket.once('connect', () => finish(socket)).once('error', done)
        } else {
          tunnel(host, port, (error, socket) => (error ? done(error) : finish(socket)))
        }
      }
    })
  }
  Object.defineProperty(globalThis, 'fetch', {
    configurable: true,
    enumerable: true,
    writable: true,
    value: function fetch (...words) {
      if (!ready) {
        // The dispatcher is there once fetch was called: with what never leaves the process.
        plain('data:,').catch(() => {})
        prepare()
      }
      return plain.apply(this, words)
    }
  })
}
