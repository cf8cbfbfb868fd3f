"""Who is calling and what they may do: identities, secrets, tokens, roles. Knows rows and time, never HTTP.

The rules that hold in every file here: rights are computed live from rows at every use; a token, the limits of a
credential or a scope can only narrow them; no right hangs on the form of a name; trouble in the database is never
"wrong password".
"""
