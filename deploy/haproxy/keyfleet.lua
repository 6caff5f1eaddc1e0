-- Asks a verifier about each request. No answer is cached.
--
-- In haproxy.cfg: http-request lua.keyfleet-check http://127.0.0.1:8181/v1/check/demo/echo-model

local timeout = 5000 -- ms
local passed_on = { "www-authenticate", "retry-after", "content-type", "keyfleet-request-id", "keyfleet-seq", "keyfleet-staleness-ms" }

local function answer(txn, status, body, headers)
	local reply = txn:reply({ status = status, body = body })
	reply:add_header("cache-control", "no-store")
	for name, value in pairs(headers) do
		reply:add_header(name, value)
	end
	txn:done(reply)
end

local function unavailable(txn)
	answer(txn, 503, '{"type":"about:blank","title":"Service Unavailable","status":503,' ..
		'"detail":"API keys cannot be checked here at the moment. Try again shortly.",' ..
		'"error":{"message":"API keys cannot be checked here at the moment. Try again shortly.",' ..
		'"type":"server_error","code":"unavailable","param":null}}\n',
		{ ["retry-after"] = "1", ["content-type"] = "application/problem+json" })
end

local asked_with = { "x-api-key", "authorization", "keyfleet-min-seq", "x-request-id" }

core.register_action("keyfleet-check", { "http-req" }, function(txn, url)
	local sent, headers = txn.http:req_get_headers(), {}
	for _, name in ipairs(asked_with) do
		if sent[name] then
			headers[name] = { sent[name][0] }
		end
	end
	local check = core.httpclient():get({ url = url, headers = headers, timeout = timeout })
	if check == nil then
		return unavailable(txn)
	end
	if check.status == 200 then
		txn.http:req_set_header("keyfleet-key-id", check.headers["keyfleet-key-id"][0])
		txn.http:req_set_header("keyfleet-project", check.headers["keyfleet-project"][0])
		return
	end
	-- HAProxy itself answers 503 where no verifier listens, and only a verifier says when to come back.
	local refused = check.status == 401 or check.status == 403 or (check.status == 503 and check.headers["retry-after"])
	if not refused then
		return unavailable(txn)
	end
	local kept = {}
	for _, name in ipairs(passed_on) do
		if check.headers[name] then
			kept[name] = check.headers[name][0]
		end
	end
	answer(txn, check.status, check.body, kept)
end, 1)
