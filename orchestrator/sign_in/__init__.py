"""Who a user is and which roles that gives: passwords, OpenID Connect, and the rules of services.

`web/sign_in/` has the pages and cookies. docs/adr/0026-sign-in.md has the reasons.
"""
