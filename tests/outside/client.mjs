// Every flow of the service by openid-client, an OAuth client that we did not write. Reads its settings as JSON from the
// environment (PERKS_OUTSIDE), asks for a browser by printing {"visit": url, …} and reading the address that it ended at,
// and prints {"done": …} or fails.
import * as oauth from 'openid-client'
import * as resource from 'oauth4webapi'
import { createInterface } from 'node:readline'

const settings = JSON.parse(process.env.PERKS_OUTSIDE)
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const say = (message) => console.log(JSON.stringify(message))
const open = { execute: [oauth.allowInsecureRequests], algorithm: 'oauth2' }

async function browse(step) {
  say(step)
  return new URL((await answers.next()).value)
}

function check(condition, what) {
  if (!condition) throw new Error(what)
}

async function configured({ id, secret, key }) {
  let authentication = oauth.None()
  if (secret) authentication = oauth.ClientSecretBasic(secret)
  if (key) {
    const imported = await crypto.subtle.importKey('jwk', key, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
    authentication = oauth.PrivateKeyJwt({ key: imported, kid: key.kid })
  }
  return oauth.discovery(new URL(settings.issuer), id, undefined, authentication, open)
}

async function asked(config, token, query, options) {
  const response = await oauth.fetchProtectedResource(config, token, new URL('/graphql', settings.issuer), 'POST',
    JSON.stringify({ query }), new Headers({ 'content-type': 'application/json' }), options)
  return (await response.json()).data
}

async function codeWithPushAndProof() {
  const config = await configured(settings.shop)
  const keys = await oauth.randomDPoPKeyPair('ES256')
  const DPoP = oauth.getDPoPHandle(config, keys)
  const verifier = oauth.randomPKCECodeVerifier()
  const state = oauth.randomState()
  const address = await oauth.buildAuthorizationUrlWithPAR(config, {
    redirect_uri: settings.redirect, scope: 'member.tier:read eligibility:read', state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }, { DPoP })
  check(address.searchParams.has('request_uri'), 'no request_uri')
  const back = await browse({ visit: address.href, as: 'member' })
  const tokens = await oauth.authorizationCodeGrant(config, back,
    { pkceCodeVerifier: verifier, expectedState: state }, undefined, { DPoP })
  check(tokens.token_type === 'dpop', `token_type ${tokens.token_type}`)
  const { viewer } = await asked(config, tokens.access_token, '{ viewer { kind scopes } }', { DPoP })
  check(viewer.kind === 'PARTNER', 'not admitted')
  const fresh = await oauth.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
  check(fresh.access_token !== tokens.access_token, 'not refreshed')
  const told = await oauth.tokenIntrospection(config, fresh.access_token)
  check(told.active && told.sub === settings.alias && told.cnf.jkt, 'introspection')
  await oauth.tokenRevocation(config, fresh.access_token)
  check(!(await oauth.tokenIntrospection(config, fresh.access_token)).active, 'still active')
  check(!fresh.refresh_token, "a confidential client keeps its refresh token")
  await oauth.tokenRevocation(config, tokens.refresh_token)
  await refused(oauth.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP }), 'invalid_grant')
  return tokens
}

async function refused(attempt, error) {
  try {
    await attempt
  } catch (fault) {
    check(fault.error === error, `${fault.error} instead of ${error}`)
    return
  }
  throw new Error(`admitted instead of ${error}`)
}

async function publicCode() {
  const config = await configured(settings.app)
  const verifier = oauth.randomPKCECodeVerifier()
  const address = oauth.buildAuthorizationUrl(config, {
    redirect_uri: settings.redirect, scope: 'me:read me:consents', state: 'some state',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  })
  const back = await browse({ visit: address.href, as: 'member' })
  const tokens = await oauth.authorizationCodeGrant(config, back,
    { pkceCodeVerifier: verifier, expectedState: 'some state' })
  const { me } = await asked(config, tokens.access_token, '{ me { externalId } }')
  check(me.externalId, 'no member')
  const next = await oauth.refreshTokenGrant(config, tokens.refresh_token)
  check(next.refresh_token !== tokens.refresh_token, 'not rotated')
  await oauth.refreshTokenGrant(config, next.refresh_token)
  await refused(oauth.refreshTokenGrant(config, tokens.refresh_token), 'invalid_grant')
}

async function device() {
  const config = await configured(settings.till)
  const started = await oauth.initiateDeviceAuthorization(config, { scope: 'eligibility:read', place: 'Till 3' })
  const polling = oauth.pollDeviceAuthorizationGrant(config, started)
  await browse({ visit: started.verification_uri_complete, code: started.user_code, as: 'administrator' })
  const tokens = await polling
  const { viewer } = await asked(config, tokens.access_token, '{ viewer { kind } }')
  check(viewer.kind === 'PARTNER', 'the till is not admitted')
}

async function machine() {
  const config = await configured(settings.machine)
  const tokens = await oauth.clientCredentialsGrant(config, { scope: 'perks:read' })
  const server = config.serverMetadata()
  const request = new Request(new URL('/graphql', settings.issuer), {
    headers: { authorization: `Bearer ${tokens.access_token}` },
  })
  const claims = await resource.validateJwtAccessToken(server, request, settings.audience,
    { [resource.allowInsecureRequests]: true })
  check(claims.client_id === settings.machine.id && claims.scope === 'perks:read', 'another resource server disagrees')
}

await machine()
say({ passed: 'client credentials by private_key_jwt, token validated by oauth4webapi' })
await codeWithPushAndProof()
say({ passed: 'code with PKCE, PAR and DPoP; refresh, introspection, revocation' })
await publicCode()
say({ passed: 'public client with PKCE and rotation' })
await device()
say({ passed: 'device' })
say({ done: true })
process.exit(0)
