// A subscription followed by clients that we did not write: graphql-ws, graphql-sse, or Apollo Client by multipart
// responses. Reads its settings as JSON from the environment (PERKS_OUTSIDE) and prints each result as a line of JSON.
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client'
import { createClient as overEvents } from 'graphql-sse'
import { createClient as overWebSocket } from 'graphql-ws'
import WebSocket from 'ws'

const { client, url, tokens, query, variables } = JSON.parse(process.env.PERKS_OUTSIDE)
const say = (message) => console.log(JSON.stringify(message))
// The last token is good for the rest of the run.
const token = () => `Bearer ${tokens.length > 1 ? tokens.shift() : tokens[0]}`
const sink = {
  next: (result) => say(result),
  error: (error) => say({ failed: String(error?.message ?? JSON.stringify(error)) }),
  complete: () => say({ completed: true }),
}

const clients = {
  'graphql-ws': () =>
    overWebSocket({
      url: url.replace('http', 'ws'),
      webSocketImpl: WebSocket,
      connectionParams: () => ({ Authorization: token() }),
      keepAlive: 500,
      retryWait: async () => {},
    }).subscribe({ query, variables }, sink),
  'graphql-sse': () =>
    overEvents({ url, headers: () => ({ Authorization: token() }), retry: async () => {} }).subscribe(
      { query, variables },
      sink,
    ),
  apollo: () =>
    new ApolloClient({ link: new HttpLink({ uri: url, headers: { authorization: token() } }), cache: new InMemoryCache() })
      .subscribe({ query: gql(query), variables })
      .subscribe(sink),
}

clients[client]()
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
