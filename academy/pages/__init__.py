"""The service ``/services/academy``: home page, staff pages, language, and the hub's own templates."""
