// Starts oidc-provider as an issuer that this project has no hand in: JWT access tokens (RFC 9068) for one client by
// client_credentials, for any of the audiences. It prints one line of JSON when it is ready, and ends with its input.
//
// node issuer.mjs PORT AUDIENCE...

import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";

import Provider from "oidc-provider";

const [port, ...audiences] = process.argv.slice(2);
const address = `http://127.0.0.1:${port}`;
const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });

const provider = new Provider(address, {
  jwks: { keys: [{ ...key, kid: "first", alg: "ES256", use: "sig" }] },
  clients: [
    {
      client_id: "till",
      client_secret: "a secret of the tests alone",
      grant_types: ["client_credentials"],
      id_token_signed_response_alg: "ES256",
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, audience) => {
        if (!audiences.includes(audience)) throw new Error(`${audience} was not given`);
        return {
          scope: "perks.check perks.manage",
          audience,
          accessTokenFormat: "jwt",
          accessTokenTTL: 300,
          jwt: { sign: { alg: "ES256" } },
        };
      },
    },
  },
});

const server = provider.listen(Number(port), "127.0.0.1");
await once(server, "listening");
console.log(JSON.stringify({ issuer: address, token_endpoint: `${address}/token` }));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
