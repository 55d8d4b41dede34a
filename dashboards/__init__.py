"""The screen: the command line, and the Streamlit pages."""
